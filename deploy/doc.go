// Package deploy is a place: the image, the Helm chart, the manifests made from it,
// rules for nftables. It has no code but tests, which build and read them.
package deploy
