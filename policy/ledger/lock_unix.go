//go:build unix

package ledger

import (
	"errors"
	"os"
	"syscall"
)

// removed says that no name leads to f any more: what is written to it is gone with
// the process. A file that was renamed is not.
func removed(f file) bool {
	o, ok := f.(*os.File)
	if !ok {
		return false
	}
	i, err := o.Stat()
	if err != nil {
		return false
	}
	s, ok := i.Sys().(*syscall.Stat_t)
	return ok && s.Nlink == 0
}

// lock takes the advisory lock of f, which the kernel gives back when f is
// closed or the process ends, however it ends.
func lock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		case !errors.Is(err, syscall.EINTR):
			return err
		}
	}
}
