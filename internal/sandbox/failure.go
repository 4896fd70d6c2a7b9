package sandbox

import (
	"errors"
	"strings"

	"github.com/sandpool/sandpool"
)

// outputTarget marks the detail of an error that is what a sandbox wrote.
const outputTarget = "output"

// Saying returns known, which is part of err, with the last lines that the sandbox wrote. They are
// for the owner of the template and for nobody else who meets the error; see Reason.
func Saying(known *sandpool.Error, lines string, err error) error {
	out := *known
	out.Err = err
	if lines != "" {
		out.Details = []*sandpool.Error{{Class: known.Class, Target: outputTarget, Message: lines}}
	}
	return &out
}

// Reason is why a sandbox could not be had, in words for the owner of its template: what the first
// error in err's chain that callers may see says, and the last lines of the sandbox. It is empty if
// err says nothing but what happened on the host.
func Reason(err error) (sentence, withOutput string) {
	var known *sandpool.Error
	if !errors.As(err, &known) || known.Class == sandpool.Internal || known.Message == "" {
		return "", ""
	}
	sentence = printable(known.Message)
	for _, d := range known.Details {
		if d.Target == outputTarget {
			return sentence, sentence + "\nThe last lines of its output:\n" +
				strings.TrimRight(d.Message, "\n")
		}
	}
	return sentence, sentence
}
