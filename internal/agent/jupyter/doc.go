// Package jupyter runs kernels of Jupyter, which others have made and installed in an image, as
// kernels of the agent: it speaks the frames of package kernels on one side and Jupyter's messaging
// protocol (https://jupyter-client.readthedocs.io/en/stable/messaging.html) on the other.
//
// # Who runs where
//
//	agent (root)
//	  └── bridge (user): the agent's own program, started as a kernel
//	        └── Jupyter kernel (user), in a process group of its own
//
// The bridge is a process of the user's. What a kernel sends, which cells decide, is taken apart
// there and not in the agent, and reaches the agent as the frames that any kernel could forge. The
// agent sees one kernel like others: it signals the bridge, takes its output, and ends its session.
//
// # Kernelspecs
//
// A kernel is a directory with a kernel.json below share/jupyter/kernels, of the user's home, of
// the prefixes whose bin is in PATH, and of the system. It names a command line, an environment,
// and how the kernel is interrupted.
//
// # Connections
//
// The kernel listens on four TCP ports of the loopback interface, which the bridge chooses and
// writes into a connection file with a key that signs each message (HMAC-SHA256). All transports
// would do; TCP is the one that every kernel has. A port that was free may be taken before the
// kernel binds it; the kernel ends then, and is started again with other ports.
//
//	shell    execute_request → execute_reply
//	iopub    stream, display_data, execute_result, error, clear_output, status
//	control  interrupt_request, of kernels that take no signal
//	stdin    input_request → input_reply
//
// A cell is over when its reply has come and iopub has said that the kernel is idle after it: all
// that it printed and showed comes before that.
//
// # Input
//
// With standard input in a request, each question of the kernel is answered by a line of it, and
// after the last by the end of file (Ctrl-D, as Jupyter's console sends it). Without, the request
// does not allow questions, and most kernels refuse them with an error of their own. One that asks
// all the same gets the end of file, and the cell fails with InputRefused.
package jupyter
