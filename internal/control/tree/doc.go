// Package tree serves what lies around session pools in Azure Resource Manager: tenants,
// subscriptions, locations, providers, resource groups, lists of resources, environments, role
// definitions and role assignments. az, the SDKs and templates ask for these things before, and
// after, they ask for a pool.
//
// A subscription and a location are there when they are named: they hold nothing of their own.
// Resource groups, environments and role assignments are documents of the store. A group that
// nobody made is there as soon as a pool lies in it, because pools need no group.
//
// Role assignments are no second book of who may do what: one is a grant of the token whose id is
// the principal's, and is given and taken with the document.
package tree
