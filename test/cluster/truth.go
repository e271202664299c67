package main

import (
	"encoding/json"
	"os"
	"time"
)

// deed is one thing that was done, as the script and the client saw it. Nothing in
// it comes from egressaudit.
type deed struct {
	Time    time.Time `json:"time"`
	Phase   string    `json:"phase"`
	Who     string    `json:"who"` // "azureml/POD", or "node:NAME" for what containerd fetches
	Owner   string    `json:"owner,omitempty"`
	Account string    `json:"account,omitempty"`
	Host    string    `json:"host"`
	Port    uint16    `json:"port"`
	Way     way       `json:"way"`
	Fault   fault     `json:"fault"` // what the network was told to do
	OK      bool      `json:"ok"`    // what the client met
	Around  bool      `json:"around,omitempty"`
	For     string    `json:"for,omitempty"` // the pod whose image could not be pulled
}

// truth is the file of deeds, and they.
type truth struct {
	file  *os.File
	deeds []deed
}

func newTruth(path string) (*truth, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
	return &truth{file: f}, err
}

// note writes a deed down, with what the network does to the host.
func (t *truth) note(d deed, host string) error {
	to, err := find(host)
	if err != nil {
		return err
	}
	d.Time, d.Host, d.Port, d.Way, d.Fault = time.Now().UTC(), to.host, to.port, to.way, to.fault
	t.deeds = append(t.deeds, d)
	return json.NewEncoder(t.file).Encode(d)
}
