// Package e2e proves the promises on the real program from outside: it is built,
// started, killed, flooded, damaged and restarted as in production. There is
// nothing in it but tests. Each proof is short by default and long with
// PROVE=long; each also runs on something that is broken on purpose, to show
// that it would notice. SEED=n repeats a run; PROOFS_OUT=folder keeps the figures.
package e2e
