// Package reg makes emulated registers from one table, which the code, the
// documentation and the tests share.
package reg
