package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/gorilla/mux"
	"github.com/stretchr/testify/require"

	"birthday-demo/app/api"
	"birthday-demo/app/httpd"
)

// spec is openapi.yaml, ready to judge requests and answers.
type spec struct {
	doc    *openapi3.T
	router routers.Router
}

func loadSpec(t testing.TB) *spec {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	require.NoError(t, doc.Validate(context.Background()))
	doc.Servers = nil // the file names where it was found, tests have no such place
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return &spec{doc, router}
}

// validate compares an answer with the description, and the request too when it
// was accepted. What the description does not have may only be refused, or asked
// for its methods.
func (s *spec) validate(t testing.TB, method, target, body string, header http.Header, a answer) {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header = header.Clone()
	if strings.HasPrefix(strings.TrimLeft(body, " \t\r\n"), "{") {
		r.Header.Set("Content-Type", "application/json") // it is read so, whatever it says
	}
	if method == http.MethodHead {
		r.Method = http.MethodGet // described once for both
	}
	route, parameters, err := s.router.FindRoute(r)
	if err != nil {
		require.True(t, a.status >= 400 || method == http.MethodOptions, "%s %s is not described, and gave %d", method, target, a.status)
		return
	}
	for name, value := range parameters { // the router gives them as they were sent
		parameters[name], err = url.PathUnescape(value)
		require.NoError(t, err)
	}
	request := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if a.status < 300 {
		require.NoError(t, openapi3filter.ValidateRequest(context.Background(), request), "%s %s", method, target)
	}
	require.NoError(t, openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request,
		Status:                 a.status,
		Header:                 a.header,
		Body:                   io.NopCloser(bytes.NewReader([]byte(a.body))),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true},
	}), "%s %s gave %d %s", method, target, a.status, a.body)
}

// TestRoutesAndDescriptionAreTheSame walks the router and the file, both ways.
func TestRoutesAndDescriptionAreTheSame(t *testing.T) {
	described := map[string]string{}
	for path, item := range loadSpec(t).doc.Paths.Map() {
		methods := []string{http.MethodOptions}
		for method := range item.Operations() {
			methods = append(methods, method)
			if method == http.MethodGet {
				methods = append(methods, http.MethodHead)
			}
		}
		slices.Sort(methods)
		described[path] = strings.Join(methods, ", ")
	}
	routed := map[string]string{}
	require.NoError(t, api.Router().Walk(func(route *mux.Route, _ *mux.Router, _ []*mux.Route) error {
		template, err := route.GetPathTemplate()
		routed[template] = route.GetHandler().(*httpd.Resource).Allow()
		return err
	}))
	require.Equal(t, described, routed)
}

// TestTheDescriptionHasAVersion asks for a new version when the file changed:
// raise info.version, and run this test with UPDATE_OPENAPI=1.
func TestTheDescriptionHasAVersion(t *testing.T) {
	file, err := os.ReadFile("openapi.yaml")
	require.NoError(t, err)
	sum := sha256.Sum256(file)
	got := loadSpec(t).doc.Info.Version + " " + hex.EncodeToString(sum[:]) + "\n"
	const known = "testdata/openapi.sum"
	if os.Getenv("UPDATE_OPENAPI") != "" {
		require.NoError(t, os.WriteFile(known, []byte(got), 0o600))
	}
	want, err := os.ReadFile(known)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
