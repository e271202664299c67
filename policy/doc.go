// Package policy owns the words of egressaudit: Name, Pattern, Requirement,
// Catalog, Match, Outcome, Observation and Record. It is pure: no I/O, no
// clock, no log, and it imports nothing else of the project, so that sensors,
// ledger and report speak of the same things without knowing each other.
//
// A Name or Pattern is made once, at the door, by ParseName or ParsePattern;
// inside the program a host is never a string again. Values are safe for use
// by several goroutines at once, because nothing here changes after it is made.
package policy
