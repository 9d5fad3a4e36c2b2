package api

import "github.com/gorilla/mux"

// Router gives the routes, for the test that compares them with openapi.yaml.
func Router() *mux.Router { return new(server).routes() }
