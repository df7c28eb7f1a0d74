// Package pinning leases pages of guest memory to programs.
package pinning
