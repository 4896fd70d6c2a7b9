package gateway

import "github.com/sandpool/sandpool"

// getExecution answers for asynchronous executions, which are refused when they
// are posted: there is none to be found.
func (g *Gateway) getExecution(c *call) error {
	return sandpool.Errorf(sandpool.NotFound, "ExecutionNotFound", "executionId",
		"No execution available for operation Id: %s. Asynchronous executions are not supported yet; the answer of a synchronous one is in the response to its POST.", clip(c.name))
}
