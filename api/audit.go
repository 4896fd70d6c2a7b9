package api

import (
	"encoding/json"
	"time"
)

// The outcomes of requests in the audit log.
const (
	// AuditDone: what was asked for was done, or has begun.
	AuditDone = "done"
	// AuditRefused: the caller may not do it, or is not known.
	AuditRefused = "refused"
	// AuditFailed: the caller may do it, and it was not done.
	AuditFailed = "failed"
)

// AuditRecord is one line of the audit log: a request that was to change something, or that was
// refused.
type AuditRecord struct {
	// Seq grows by one from record to record.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	// Who is the principal's subject, such as "token:4kq2…"; empty if the caller is not known. Name
	// is what people call it.
	Who  string `json:"who,omitempty"`
	Name string `json:"name,omitempty"`
	// From is the address that the request came from, without a port.
	From string `json:"from,omitempty"`
	// Action is the request's method, and On the path of what it was about.
	Action  string `json:"action"`
	On      string `json:"on"`
	Outcome string `json:"outcome"`
	// Status is that of the answer; Code and Message are those of its error.
	Status  int    `json:"status,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Trace is the request's trace id.
	Trace string `json:"trace,omitempty"`
	// Before and After are the resource as the API shows it, which is without secrets. One that
	// was made has no Before, one that is gone no After.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// LeftOut is how many refusals since the record before were not written.
	LeftOut int `json:"leftOut,omitempty"`
	// Prev is in the first record of a file: the hash of the record before it, so that the file
	// can be checked when the one before it is gone.
	Prev string `json:"prev,omitempty"`
	// Hash covers the record and all before it.
	Hash string `json:"hash,omitempty"`
}

// AuditRecords answers GET /sandpool/audit, the oldest first.
type AuditRecords struct {
	Value []AuditRecord `json:"value"`
	// Next is the parameter "after" for the records that follow.
	Next uint64 `json:"next"`
}

// AuditVerification answers GET /sandpool/audit/verification.
type AuditVerification struct {
	// Records were read, from First to Last.
	Records int    `json:"records"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	// Head is the hash of the newest record. Kept elsewhere, it shows later that the log was not
	// written anew.
	Head string `json:"head"`
	// Fault is the first thing that is wrong; empty if the log is whole.
	Fault string `json:"fault,omitempty"`
}

// The parameters of a question for audit records, beside those for events.
const (
	WhoParameter     = "who"
	OnParameter      = "on"
	OutcomeParameter = "outcome"
	SinceParameter   = "since"
	UntilParameter   = "until"
)
