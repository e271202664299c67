//go:build !race

package hello_test

const raceEnabled = false
