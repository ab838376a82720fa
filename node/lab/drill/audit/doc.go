// Package audit compares a ledger of requests with the rows in the database. A load generator writes the ledger: a line
// before and a line after every request. The audit counts punches that were lost, doubled or altered, and more.
//
// It imports no package of the product. It compares every field itself, so a mistake in the product's validation or
// fingerprint cannot hide a fault from it. Package drill converts the product's types.
package audit
