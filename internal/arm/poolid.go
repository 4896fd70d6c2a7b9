package arm

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/sandpool/sandpool"
	"github.com/sandpool/sandpool/internal/pattern"
)

// The routes below which the resources of a pool are found, as patterns of
// http.ServeMux without a method. Their wildcards are those that ParsePoolID reads.
const (
	SubscriptionPath  = "/subscriptions/{subscription}/providers/Microsoft.App"
	ResourceGroupPath = "/subscriptions/{subscription}/resourceGroups/{resourceGroup}/providers/Microsoft.App"
	// PoolPath is a pool in the control plane.
	PoolPath = ResourceGroupPath + "/sessionPools/{pool}"
	// EndpointPath is a pool's data-plane endpoint.
	EndpointPath = "/subscriptions/{subscription}/resourceGroups/{resourceGroup}/sessionPools/{pool}"
)

// EndpointOf returns the path of a pool's data-plane endpoint. The names of a
// valid id need no escaping.
func EndpointOf(id sandpool.PoolID) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/sessionPools/%s", id.Subscription,
		id.ResourceGroup, id.Name)
}

// The rules of names. A pool's is stricter than its published pattern in nothing
// and wider in one thing: that pattern, ^[a-z][a-z0-9]*$, forbids the hyphens that
// Azure's documentation and practice use.
// A subscription is a UUID in Azure; any short word is allowed here. Lengths are checked
// apart: a repetition that is counted compiles to as many copies, whenever the program starts.
var (
	poolName          = pattern.Lazy(`^[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	subscriptionName  = pattern.Lazy(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	resourceGroupName = pattern.Lazy(`^[A-Za-z0-9_().-]*[A-Za-z0-9_()-]$`)
)

// ParsePoolID returns the id in the path values of r, whose pattern begins with
// PoolPath or EndpointPath.
func ParsePoolID(r *http.Request) (sandpool.PoolID, error) {
	id := sandpool.PoolID{Subscription: r.PathValue("subscription"),
		ResourceGroup: r.PathValue("resourceGroup"), Name: r.PathValue("pool")}
	return id, CheckPoolID(id)
}

// CheckPoolID reports what is wrong with the names of id. The case of a pool's
// name does not matter, as everywhere in Resource Manager. That is the case of ASCII letters
// alone: there are others, such as the sign for kelvin, whose lower case is one.
func CheckPoolID(id sandpool.PoolID) error {
	if err := CheckScope(id.Subscription, id.ResourceGroup); err != nil {
		return err
	}
	if n := len(id.Name); n < 3 || n > 63 || !poolName().MatchString(id.Name) {
		return sandpool.Errorf(sandpool.Invalid, "InvalidSessionPoolName", "sessionPoolName",
			"The session pool name %q is not allowed. Use 3 to 63 lower-case letters, digits and "+
				"hyphens, beginning with a letter and not ending with a hyphen.", clip(id.Name,
				100))
	}
	return nil
}

// CheckScope reports what is wrong with the names of a subscription and a
// resource group; an empty group means the whole subscription.
func CheckScope(subscription, group string) error {
	if len(subscription) > 64 || !subscriptionName().MatchString(subscription) {
		return sandpool.Errorf(sandpool.Invalid, "InvalidSubscriptionId", "subscriptionId",
			"The subscription id %q is not allowed. Use a UUID, or up to 64 letters, digits and "+
				"hyphens; the server's own is %s.",
			subscription, sandpool.DefaultSubscription)
	}
	if group != "" && (len(group) > 90 || !resourceGroupName().MatchString(group) ||
		strings.Trim(group, ".") == "") {
		return sandpool.Errorf(sandpool.Invalid, "InvalidResourceGroupName", "resourceGroupName",
			"The resource group name %q is not allowed. Use up to 90 letters, digits and _ - ( ) "+
				". and do not end with a period.", group)
	}
	return nil
}

// ParseScope reads a scope, as sandpool.ParseScope does, and checks the names in it.
func ParseScope(s string) (sandpool.Scope, error) {
	scope, err := sandpool.ParseScope(s)
	switch {
	case err != nil || scope == (sandpool.Scope{}):
	case scope.Pool != "":
		err = CheckPoolID(scope.PoolID())
	default:
		err = CheckScope(scope.Subscription, scope.ResourceGroup)
	}
	return scope, err
}

// PoolOfPath returns the pool whose resource, or one below it, an escaped path of the control plane
// names. Whether there is such a pool, it does not say.
func PoolOfPath(esc string) (sandpool.PoolID, bool) {
	path, err := normalPath(esc)
	if err != nil {
		return sandpool.PoolID{}, false
	}
	seg := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(seg) < 8 || seg[0] != "subscriptions" || seg[2] != "resourceGroups" ||
		seg[4] != "providers" || seg[5] != "Microsoft.App" || seg[6] != "sessionPools" {
		return sandpool.PoolID{}, false
	}
	id := sandpool.PoolID{}
	for i, into := range map[int]*string{1: &id.Subscription, 3: &id.ResourceGroup, 7: &id.Name} {
		if *into, err = url.PathUnescape(seg[i]); err != nil {
			return sandpool.PoolID{}, false
		}
	}
	return id, CheckPoolID(id) == nil
}

// ParseResourceID reads a pool's resource id, or the path of its data-plane endpoint.
func ParseResourceID(s string) (sandpool.PoolID, error) {
	path, err := normalPath(s)
	if err != nil {
		path = ""
	}
	seg := strings.Split(strings.TrimPrefix(path, "/"), "/")
	if len(seg) == 8 && seg[4] == "providers" && seg[5] == "Microsoft.App" {
		seg = append(seg[:4:4], seg[6:]...)
	}
	if len(seg) != 6 || seg[0] != "subscriptions" || seg[2] != "resourceGroups" ||
		seg[4] != "sessionPools" {
		return sandpool.PoolID{}, sandpool.Errorf(sandpool.Invalid, "InvalidResourceId", "pool",
			"%.200q is not the resource id of a session pool. Write it as %s.", s,
			sandpool.PoolID{Subscription: sandpool.DefaultSubscription,
				ResourceGroup: sandpool.DefaultResourceGroup, Name: "NAME"})
	}
	id := sandpool.PoolID{Subscription: seg[1], ResourceGroup: seg[3], Name: seg[5]}
	return id, CheckPoolID(id)
}
