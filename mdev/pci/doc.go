// Package pci is the configuration space of a PCI function as one table of
// registers, and an emulation of the MSI-X table.
package pci
