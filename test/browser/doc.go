// Package browser opens what egressaudit makes for people in a real browser,
// Debian's Chromium without a window, and holds it to what a reader may expect:
// nothing is loaded from elsewhere, nothing is said on the console, nothing is
// wider than the screen, and axe-core finds no serious fault. The live page it
// watches while the program records: it turns by itself, survives a restart, and
// takes 2,000 events a second. It keeps
// screenshots for a human to look at. What the pages say is not its business:
// the golden files of policy/report hold that.
package browser
