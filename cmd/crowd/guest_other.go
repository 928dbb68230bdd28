//go:build !linux

package main

// guest is for the first process of an emulated machine, which has Linux.
func guest() bool { return false }
