package api

import (
	_ "embed"
	"net/http"
)

// openAPI describes the public port to machines.
//
//go:embed openapi.yaml
var openAPI []byte

func getOpenAPI(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/yaml") // RFC 9512
	_, _ = w.Write(openAPI)                            // the client went away: nobody is left to tell
	return nil
}
