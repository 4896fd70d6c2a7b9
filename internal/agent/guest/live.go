package guest

import "time"

// lookEvery is how long what a cell prints without an end of a line, or in a hurry, may wait until
// who watches sees it.
const lookEvery = 4 * time.Millisecond

// acknowledge tells the kernel that what it sent has been taken, with all that was printed before.
func (c *cell) acknowledge() error {
	_, err := c.k.control.Write([]byte("\x00\x00\x00\x0c{\"op\":\"ack\"}"))
	return err
}

// watch passes on what a cell has gathered and not put into its pipes yet, until what
// it returns is called. Without a feed nobody waits for it.
func (c *cell) watch() (stop func()) {
	if c.feed == nil {
		return func() {}
	}
	c.feed.Still()
	c.k.Glance()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				c.k.Glance()
			}
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}
