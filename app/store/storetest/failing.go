package storetest

import (
	"context"

	"birthday-demo/app/birthday"
)

// Failing is a store whose every call gives err, to see what others make of it.
func Failing(err error) birthday.Store { return failing{err} }

type failing struct{ err error }

func (f failing) Put(context.Context, birthday.Person) error { return f.err }

func (f failing) Get(context.Context, birthday.Username) (birthday.Person, error) {
	return birthday.Person{}, f.err
}

func (f failing) Delete(context.Context, birthday.Username) error { return f.err }

func (f failing) After(context.Context, birthday.Username, int) ([]birthday.Person, error) {
	return nil, f.err
}

func (f failing) Ping(context.Context) error { return f.err }

func (f failing) Close() error { return nil }
