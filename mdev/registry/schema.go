package registry

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/hashicorp/go-memdb"

	"github.com/softmdev/softmdev/mdev"
	"github.com/softmdev/softmdev/translate"
)

// The tables.
const (
	tableParents = "parents"
	tableTypes   = "types"
	tableDevices = "devices"
	tableGroups  = "groups"
	tableEvents  = "events"
)

// The indexes. Every table has one called id.
const (
	indexID     = "id"
	indexParent = "parent" // types and devices of a parent
	indexType   = "type"   // devices of a type
	indexGroup  = "group"  // devices of a group
	indexName   = "name"   // groups that have a name
)

// The rows. They are immutable once they are in the database: a change puts a
// changed copy in their place.
type (
	parentRow struct {
		name    string
		leaving bool
		// create is held while a device of a type with Available is made.
		create chan struct{}
	}
	typeRow struct {
		parent string
		Type
	}
	deviceRow struct {
		Device
		dev     mdev.Device   // nil while it is being made
		session *mdev.Session // nil unless open, and while it opens
		store   *translate.Store
		lease   *lease // who holds it; nil if nobody does
	}
	groupRow struct {
		number uint32
		name   string
	}
	eventRow struct{ Event }
)

// lease is one holder's claim on a device, from before its session opens
// until after that closed. Its address is its identity.
type lease struct{ ended atomic.Bool }

func schema() *memdb.DBSchema {
	return &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
		tableParents: table(tableParents, id(func(p *parentRow) []byte { return nameKey(p.name) })),
		tableTypes: table(tableTypes, id(func(t *typeRow) []byte { return nameKey(t.parent, t.Name) }),
			many(indexParent, func(t *typeRow) []byte { return nameKey(t.parent) })),
		tableDevices: table(tableDevices, id(func(d *deviceRow) []byte { return d.UUID[:] }),
			many(indexParent, func(d *deviceRow) []byte { return nameKey(d.Parent) }),
			many(indexType, func(d *deviceRow) []byte { return nameKey(d.Parent, d.Type) }),
			some(indexGroup, func(d *deviceRow) []byte {
				if d.State == stateCreating {
					return nil // it has none yet
				}
				return groupKey(d.Group)
			})),
		tableGroups: table(tableGroups, id(func(g *groupRow) []byte { return groupKey(g.number) }),
			optional(indexName, func(g *groupRow) []byte {
				if g.name == "" {
					return nil
				}
				return nameKey(g.name)
			})),
		tableEvents: table(tableEvents, id(func(e *eventRow) []byte { return seqKey(e.Seq) })),
	}}
}

func table(name string, indexes ...*memdb.IndexSchema) *memdb.TableSchema {
	t := &memdb.TableSchema{Name: name, Indexes: make(map[string]*memdb.IndexSchema)}
	for _, x := range indexes {
		t.Indexes[x.Name] = x
	}
	return t
}

func id[T any](key func(T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: indexID, Unique: true, Indexer: index[T]{key}}
}

func many[T any](name string, key func(T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Indexer: index[T]{key}}
}

// some is many for rows of which not all have a key.
func some[T any](name string, key func(T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, AllowMissing: true, Indexer: index[T]{key}}
}

// optional is some of which each has a key of its own.
func optional[T any](name string, key func(T) []byte) *memdb.IndexSchema {
	return &memdb.IndexSchema{Name: name, Unique: true, AllowMissing: true, Indexer: index[T]{key}}
}

// index finds rows by a key made from them; look-ups pass the key itself.
// No key is a prefix of another in the same index.
type index[T any] struct{ key func(T) []byte }

// FromObject implements memdb.SingleIndexer.
func (x index[T]) FromObject(row any) (bool, []byte, error) {
	k := x.key(row.(T))
	return k != nil, k, nil
}

// FromArgs implements memdb.Indexer.
func (x index[T]) FromArgs(args ...any) ([]byte, error) { return args[0].([]byte), nil }

// nameKey ends each name with a zero, which no name contains.
func nameKey(names ...string) []byte {
	var k []byte
	for _, n := range names {
		k = append(append(k, n...), 0)
	}
	return k
}

func groupKey(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
func seqKey(n uint64) []byte   { return binary.BigEndian.AppendUint64(nil, n) }

// txn is one look at the database, or one change of it. Errors of go-memdb
// say that the schema or its use is wrong, and nothing else.
type txn struct {
	*memdb.Txn
	r *Registry
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func get[T any](t txn, table string, key []byte) (row T, ok bool) {
	row, ok = must(t.First(table, indexID, key)).(T)
	return row, ok
}

// all are the rows in a table, or with that key in an index.
func all[T any](t txn, table, index string, key ...[]byte) []T {
	var args []any
	for _, k := range key {
		args = append(args, k)
	}
	var rows []T
	it := must(t.Get(table, index, args...))
	for row := it.Next(); row != nil; row = it.Next() {
		rows = append(rows, row.(T))
	}
	return rows
}

func (t txn) parent(name string) (*parentRow, bool) {
	return get[*parentRow](t, tableParents, nameKey(name))
}

func (t txn) device(id uuid.UUID) (*deviceRow, bool) {
	return get[*deviceRow](t, tableDevices, id[:])
}

func (t txn) put(table string, row any) {
	if err := t.Insert(table, row); err != nil {
		panic(err)
	}
}

func (t txn) drop(table string, row any) {
	if err := t.Delete(table, row); err != nil {
		panic(err)
	}
}
