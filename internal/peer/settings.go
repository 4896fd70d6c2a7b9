package peer

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/sandpool/sandpool/internal/pool/lease"
)

// Settings are what an operator can set about other servers on the same store.
type Settings struct {
	// Listen is where other servers reach this one, host:port. Empty means that they cannot: what
	// they get for pools of this server they refuse.
	Listen string `yaml:"listen"`
	// Address is what they connect to, host:port, if it is not Listen.
	Address string `yaml:"address"`
	// Cert, Key and CA are files in PEM: this server's certificate for the host of Address, its
	// key, and the authority that has signed the certificates of all. Without them the servers
	// have an authority of their own.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	CA   string `yaml:"ca"`
	// Patience is how long a server may be silent before others take its pools; the same for all.
	Patience time.Duration `yaml:"patience"`
}

// maxPatience is a bound for mistakes of units.
const maxPatience = 10 * time.Minute

// DefaultSettings are those of a server that was told nothing.
func DefaultSettings() Settings { return Settings{Patience: lease.Patience} }

// Validate reports what is wrong with the settings. shared says that the server has a store that
// others can share.
func (s Settings) Validate(shared bool) (problems []error) {
	need := func(ok bool, field string, value any, fix string) {
		if !ok {
			problems = append(problems, fmt.Errorf("configuration: peers.%s is %v; use %s", field,
				value, fix))
		}
	}
	need(s.Listen == "" || shared, "listen", strconv.Quote(s.Listen),
		"none, or set store to a PostgreSQL that the servers share")
	need(s.Listen == "" || isHostPort(s.Listen), "listen", strconv.Quote(s.Listen),
		"host:port, such as 10.0.0.5:8721, or none")
	need(s.Address == "" || s.Listen != "", "address", strconv.Quote(s.Address),
		"none, or set peers.listen as well")
	host, _, _ := net.SplitHostPort(s.Address)
	need(s.Address == "" || isHostPort(s.Address) && host != "", "address",
		strconv.Quote(s.Address),
		"host:port as other servers reach it, such as one.example.com:8721")
	host, _, _ = net.SplitHostPort(s.Listen)
	ip := net.ParseIP(host)
	need(s.Listen == "" || s.Address != "" || host != "" && (ip == nil || !ip.IsUnspecified()),
		"address", `""`, "host:port as other servers reach this one: peers.listen names no host")
	files := 0
	for _, f := range []string{s.Cert, s.Key, s.CA} {
		if f != "" {
			files++
		}
	}
	need(files == 0 || files == 3, "cert", fmt.Sprintf("%q, key %q and ca %q", s.Cert, s.Key, s.CA),
		"all three, or none")
	need(s.Patience >= lease.MinPatience && s.Patience <= maxPatience, "patience", s.Patience,
		fmt.Sprintf("%s to %s", lease.MinPatience, maxPatience))
	return problems
}

func isHostPort(s string) bool {
	_, port, err := net.SplitHostPort(s)
	_, perr := strconv.ParseUint(port, 10, 16)
	return err == nil && perr == nil
}
