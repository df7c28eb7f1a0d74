// Package pintest fails a test that ends with pins held.
package pintest
