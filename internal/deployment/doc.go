// Package deployment serves Microsoft.Resources/deployments of resource groups: it validates
// templates, says what they would change, deploys them and remembers what came of it. Package
// template evaluates them.
//
// A deployment sends each resource to the control plane as a client would, as the principal who
// asked for the deployment, so that it may do no more than its caller, and each resource is
// checked by the code that checks it at all times.
//
// A deployment is written down before its first resource is sent, and it is run by the server's
// Run. One that was cut off is run again from its beginning when the server starts: resources are
// put, and putting the same twice changes nothing. Each resource keeps its one operation, what was
// deleted before stays in the list, and a deployment within that goes on by itself is waited for
// rather than begun a second time. A complete deployment leaves alone what those within it have
// made. The request, which may hold secrets, is kept until the deployment has ended.
//
//	Accepted ──▶ Running ──▶ Succeeded
//	                 ├─────▶ Failed      the first resource that fails ends it
//	                 └─────▶ Canceled
package deployment
