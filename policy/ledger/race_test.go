//go:build race

package ledger

// raced says that the race detector makes everything ten times slower.
const raced = true
