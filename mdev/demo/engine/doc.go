// Package engine is the DMA engine of the demo device: emulated hardware that
// reaches memory only through package iommu.
package engine
