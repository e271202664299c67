//go:build !unix

package ledger

import "os"

// lock does nothing: where there is no flock, only the verbs that read run.
func lock(*os.File) error { return nil }

// removed knows nothing there, for the same reason.
func removed(file) bool { return false }
