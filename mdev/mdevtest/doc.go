// Package mdevtest has a fake device and a fake VMM for the tests of front
// ends and devices.
package mdevtest
