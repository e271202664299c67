//go:build !unix

package ledger

import "os"

// lock does nothing: where there is no flock, only the verbs that read run.
func lock(*os.File) error { return nil }
