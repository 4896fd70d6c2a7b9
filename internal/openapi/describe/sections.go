package describe

// section is operations that belong together. Their tag names them, also to the tests that hold
// handlers to the description.
type section struct {
	tag, text string
	add       func(op adder)
}

// adder adds an operation, which its callers complete.
type adder = func(id, key, summary string) *operation

func sections() []section {
	return []section{
		{"Session pools", "Pools as resources, and what is known of them.", poolOperations},
		{"Resource Manager", "What lies around pools: groups, providers, environments, roles.",
			treeOperations},
		{"Deployments", "Deployments of templates to resource groups.", deploymentOperations},
		{"Sessions", "The sessions of a pool of code, their executions and files.",
			sessionOperations},
		{"Inside a session", "Contexts, processes and terminals of a session.", insideOperations},
		{"Containers", "What requests to a pool of custom containers can be.", customOperations},
		{"MCP", "The endpoint of a pool for the Model Context Protocol.", mcpOperations},
		{"Tokens", "Who may do what.", tokenOperations},
		{"Devices", "Programs that sign in by a code.", deviceOperations},
		{"Issuer keys", "What signs tokens.", issuerKeyOperations},
		{"Events", "What happened lately.", eventOperations},
		{"Audit", "Who changed what, and who was refused.", auditOperations},
		{"Usage", "What sessions have used.", usageOperations},
		{"Issuer", "What Azure's clients ask for before they have a token.", issuerOperations},
		{"Server", "The server itself.", serverOperations},
	}
}

// pathParameters say what the parts of paths are that have names.
func pathParameters() map[string]string {
	return map[string]string{
		"assignment":    "The name of a role assignment.",
		"authority":     "\"adfs\", the server's tenant, \"common\" or \"organizations\".",
		"context":       "The name of a context.",
		"definition":    "The id of a role definition.",
		"deployment":    "The name of a deployment.",
		"environment":   "The name of a managed environment.",
		"execution":     "The id of an execution.",
		"file":          "The path of a file below /mnt/data. Its slashes may stand as they are.",
		"id":            "The id of a token.",
		"identity":      "The name of a user-assigned identity.",
		"location":      "The name of a location.",
		"lock":          "The name of a lock.",
		"operation":     "The id of an operation.",
		"path":          "A path of the container, of any number of segments.",
		"pool":          "The name of a session pool.",
		"process":       "The id of a background process.",
		"provider":      "The namespace of a resource provider.",
		"resourceGroup": "The name of a resource group.",
		"subscription":  "The id of a subscription.",
		"terminal":      "The name of a terminal.",
	}
}

// queryParameters say what the parameters of queries are.
func queryParameters() map[string]string {
	return map[string]string{
		"api-version": "A version of Azure's API, such as 2026-07-01.",
		"identifier":  "The session's identifier.",
		"path":        "A directory below /mnt/data.",
		"recursive":   "Whether directories are listed with what is in them.",
		"pageSize":    "How many entries a page has.",
		"skipToken":   "Where the page begins; from nextLink.",
		"$skipToken":  "Where the page begins; from nextLink.",
		"$filter":     "NAME eq 'VALUE', several joined by \"and\".",
		"$expand":     "\"sandboxes\" adds each of the pool's.",
		"$top":        "How many entries a page has.",
		"filename":    "The name of the file.",
		"digest":      "\"sha256\" adds that of the content.",
		"offset":      "The size that the file has, or \"end\".",
		"operation":   "\"move\", \"copy\" or \"mkdir\".",
		"to":          "The new path.",
		"overwrite":   "Whether a file of that path is replaced.",
		"format":      "\"tar\" or \"zip\".",
		"skip":        "How many entries are left out.",
		"limit":       "The most entries of an answer.",
		"after":       "What was read last: its sequence number, or next of an answer.",
		"wait":        "How many seconds to wait if there is nothing.",
		"follow":      "Whether the answer goes on until what it is about has ended.",
		"sandbox":     "The id of a sandbox.",
		"signal":      "The name of a signal; TERM is the default.",
		"columns":     "The width of the terminal.",
		"rows":        "The height of the terminal.",
		"destination": "HOST:PORT that sandboxes might want to reach.",
		"protocol":    "\"tcp\" or \"udp\".",
		"window":      "How far back: \"1h\" or \"24h\".",
		"who":         "The subject of a principal.",
		"on":          "The beginning of a path.",
		"outcome":     "\"done\", \"refused\" or \"failed\".",
		"since":       "A time in RFC 3339.",
		"by": "What totals are told apart by: some of \"pool\", \"principal\" and " +
			"\"identifier\", with commas between them.",
		"step":              "Divides the time of totals: \"hour\" or \"day\".",
		"scope":             "The resource id of a pool, a resource group or a subscription.",
		"identifierHash":    "SHA-256 of an identifier, or what a record has in its place, in hexadecimal digits.",
		"until":             "A time in RFC 3339.",
		"port":              "A port that the pool lets tunnels reach.",
		anything:            "Whatever the container takes.",
		"resource":          "Whom the token is for.",
		"client-request-id": "What the client calls the request.",
		"client_id":         "The id of the token of the server that stands behind it.",
		"search": "A part of the names of the pools, in any case. A page looks at 5,000 names at " +
			"most: it may be empty, and nextLink goes on.",
	}
}

// anything stands for every parameter that others do not name.
const anything = "anything"

// numbers are the parameters that are whole numbers.
func numbers() []string {
	return []string{"pageSize", "skip", "limit", "columns", "rows", "port", "$top"}
}
