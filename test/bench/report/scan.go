//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"os"
)

// scan is the plain way: encoding/json reads three fields of each line. It
// returns how many lines there are.
func scan(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 1<<16), 1<<20)
	n := 0
	for ; s.Scan(); n++ {
		var three struct {
			Seq     uint64 `json:"seq"`
			Name    string `json:"name"`
			Outcome string `json:"outcome"`
		}
		if err := json.Unmarshal(s.Bytes(), &three); err != nil {
			return n, err
		}
	}
	return n, s.Err()
}
