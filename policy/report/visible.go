package report

import (
	"reflect"
	"time"
)

// visible is a copy of r in which every text went through Escape, for renderings
// that then need not think of what is not printable.
func (r *Report) visible() *Report {
	return escaped(reflect.ValueOf(r)).Interface().(*Report)
}

// escaped is a deep copy of v with all texts escaped.
func escaped(v reflect.Value) reflect.Value {
	switch v.Kind() {
	case reflect.String:
		out := reflect.New(v.Type()).Elem()
		out.SetString(Escape(v.String()))
		return out
	case reflect.Pointer, reflect.Interface:
		return escapedPointee(v)
	case reflect.Struct:
		return escapedStruct(v)
	case reflect.Slice:
		if v.IsNil() {
			return v
		}
		out := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
		for i := range v.Len() {
			out.Index(i).Set(escaped(v.Index(i)))
		}
		return out
	case reflect.Map:
		out := reflect.MakeMap(v.Type())
		for _, k := range v.MapKeys() {
			out.SetMapIndex(escaped(k), escaped(v.MapIndex(k)))
		}
		return out
	}
	return v
}

func escapedPointee(v reflect.Value) reflect.Value {
	if v.IsNil() {
		return v
	}
	if v.Kind() == reflect.Interface {
		return escaped(v.Elem())
	}
	out := reflect.New(v.Type().Elem())
	out.Elem().Set(escaped(v.Elem()))
	return out
}

func escapedStruct(v reflect.Value) reflect.Value {
	if v.Type() == reflect.TypeFor[time.Time]() {
		return v
	}
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	for i := range v.NumField() {
		if v.Type().Field(i).IsExported() { // no rendering reads the others
			out.Field(i).Set(escaped(v.Field(i)))
		}
	}
	return out
}
