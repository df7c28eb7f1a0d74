package registry

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/softmdev/softmdev/mdev/errs"
)

// Device says what is known about a device.
func (r *Registry) Device(id uuid.UUID) (Device, error) {
	row, ok := r.view().device(id)
	if !ok || row.State == stateCreating {
		return Device{}, unknown(id)
	}
	return row.Device, nil
}

// List is the devices that there are, sorted by UUID.
func (r *Registry) List() []Device { return r.view().devices() }

func (t txn) devices() []Device {
	var list []Device
	for _, row := range all[*deviceRow](t, tableDevices, indexID) {
		if row.State != stateCreating {
			list = append(list, row.Device)
		}
	}
	return list
}

// Parents is the parents that there are, sorted by name.
func (r *Registry) Parents() []ParentInfo {
	t := r.view()
	var list []ParentInfo
	for _, row := range all[*parentRow](t, tableParents, indexID) {
		list = append(list, *t.parentInfo(row))
	}
	return list
}

func (t txn) parentInfo(p *parentRow) *ParentInfo {
	i := &ParentInfo{Name: p.name, Leaving: p.leaving}
	for _, typ := range all[*typeRow](t, tableTypes, indexParent, nameKey(p.name)) {
		i.Types = append(i.Types, typ.Name)
	}
	slices.Sort(i.Types)
	for _, d := range all[*deviceRow](t, tableDevices, indexParent, nameKey(p.name)) {
		if d.State != stateCreating {
			i.Devices++
		}
	}
	return i
}

// Types is the types that there are, sorted by parent and name.
func (r *Registry) Types() []TypeInfo {
	t := r.view()
	var list []TypeInfo
	for _, typ := range all[*typeRow](t, tableTypes, indexID) {
		i := TypeInfo{
			Parent: typ.parent, Name: typ.Name, Title: typ.Title, Description: typ.Description, API: typ.API,
			Available: typ.Instances,
		}
		for _, d := range all[*deviceRow](t, tableDevices, indexType, nameKey(typ.parent, typ.Name)) {
			i.Available-- // also by those that are being made
			if d.State != stateCreating {
				i.Devices++
			}
		}
		if typ.Available != nil {
			i.Available = typ.Available()
		}
		i.Available = max(i.Available, 0)
		list = append(list, i)
	}
	return list
}

// Groups is the groups that there are, sorted by number.
func (r *Registry) Groups() []Group {
	t := r.view()
	var list []Group
	for _, row := range all[*groupRow](t, tableGroups, indexID) {
		g := Group{Number: row.number, Name: row.name}
		for _, d := range all[*deviceRow](t, tableDevices, indexGroup, groupKey(row.number)) {
			g.Devices = append(g.Devices, d.UUID)
		}
		slices.SortFunc(g.Devices, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
		list = append(list, g)
	}
	return list
}

// FindType finds the one type of that name; parent may be empty where only
// one parent has such a type. errs.ErrNotFound and errs.ErrExists (several)
// say what there is.
func (r *Registry) FindType(parent, typ string) (TypeInfo, error) {
	return FindType(r.Types(), parent, typ)
}

// FindType is [Registry.FindType] among those.
func FindType(types []TypeInfo, parent, typ string) (TypeInfo, error) {
	var found []TypeInfo
	var names, parents []string
	for _, t := range types {
		if parent != "" && t.Parent != parent {
			continue
		}
		names = append(names, t.Name)
		if t.Name == typ {
			found, parents = append(found, t), append(parents, t.Parent)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		if parent != "" && len(names) == 0 {
			return TypeInfo{}, fmt.Errorf("parent %s: %w", parent, errs.ErrNotFound)
		}
		slices.Sort(names)
		return TypeInfo{}, fmt.Errorf("type %s: %w (there are %s)", typ, errs.ErrNotFound, strings.Join(slices.Compact(names), ", "))
	}
	return TypeInfo{}, fmt.Errorf("type %s is offered by several parents (%s), name one: %w", typ, strings.Join(parents, ", "), errs.ErrExists)
}
