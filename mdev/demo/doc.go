// Package demo is the "hello world" of the framework: a PCI device with a DMA
// engine, and the template for a new mediator.
package demo
