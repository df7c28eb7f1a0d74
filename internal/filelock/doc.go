// Package filelock keeps two users of one file apart: the image of a volume
// that would be written twice, a recording that two would append to. The lock
// is of the file, whatever its name, and is seen by every process that asks.
//
// It is advisory (flock): programs that do not ask are not kept away. It
// belongs to the open file, so that a second Open in the same process is
// refused like one in another process, and it ends when the file is closed,
// also by the death of the process. On systems without flock nothing is kept
// apart.
package filelock
