package main

import (
	"birthday-demo/app/birthday"
	"birthday-demo/app/store/bolt"
)

// openStore opens the store that a setting names. It calls onFail when the
// store can no longer be trusted and the process should end.
func openStore(name string, onFail func(error)) (birthday.Store, error) {
	s, err := bolt.Open(name, onFail)
	if err != nil {
		return nil, err
	}
	return s, nil
}
