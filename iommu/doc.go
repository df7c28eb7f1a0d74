// Package iommu is the hardware's side of memory.
package iommu
