package api

// ErrorBody is the body of every HTTP error, on both planes.
type ErrorBody struct {
	Error ErrorDetail `json:"error"`
}

// ErrorDetail is one error. Code is for programs, Message for people.
type ErrorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Target names the field, parameter or resource at fault.
	Target string `json:"target,omitempty"`
	// Details are the single problems, when one request had several.
	Details []ErrorDetail `json:"details"`
	// InnerError carries the code of the error's class when Code is a more
	// particular one.
	InnerError *InnerError `json:"innererror,omitempty"`
	// TraceID finds the request in the server's log.
	TraceID string `json:"traceId,omitempty"`
}

// InnerError is a second, differently grained code for an error.
type InnerError struct {
	Code string `json:"code"`
}

// The statuses of an asynchronous operation.
const (
	OperationInProgress = "InProgress"
	OperationSucceeded  = "Succeeded"
	OperationFailed     = "Failed"
	OperationCanceled   = "Canceled"
)

// Operation is the state of an asynchronous operation, found at the address
// in the header Azure-AsyncOperation.
type Operation struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	Status    string       `json:"status"`
	StartTime string       `json:"startTime,omitempty"` // RFC 3339
	EndTime   string       `json:"endTime,omitempty"`   // RFC 3339
	Error     *ErrorDetail `json:"error,omitempty"`
}

// SystemData says who made a resource and who changed it last, and when, in RFC 3339. A type is
// User or Application. A program is named by its id: that of a token of the server, or the client
// id of a foreign application. Who made a resource before servers wrote it down is not known.
type SystemData struct {
	CreatedBy          string `json:"createdBy,omitempty"`
	CreatedByType      string `json:"createdByType,omitempty"`
	CreatedAt          string `json:"createdAt,omitempty"`
	LastModifiedBy     string `json:"lastModifiedBy,omitempty"`
	LastModifiedByType string `json:"lastModifiedByType,omitempty"`
	LastModifiedAt     string `json:"lastModifiedAt,omitempty"`
}
