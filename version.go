package sandpool

// Version is the version of the server and of its clients, which are published together: a test
// holds the packages for Python and TypeScript to it.
const Version = "0.1.0"
