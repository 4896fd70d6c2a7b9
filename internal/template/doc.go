// Package template evaluates the deployment templates of Azure Resource Manager: it reads a
// template, resolves its parameters and variables, expands its copies, and says which resources
// with which bodies come in which order, and what the outputs are. It knows no server: resources
// that an expression refers to are asked of the caller.
//
// An expression is a string in brackets, "[concat('a', parameters('b'))]". parse.go reads it,
// expression.go evaluates it, and the files functions*.go hold the functions. What a template
// asks for and this package has not is an error that names it; nothing is left as it was written.
//
// Work is bounded: by the template's size, by the depth of expressions, by the number of resources
// and of the values that one evaluation makes.
package template
