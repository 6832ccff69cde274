package fetcher

import (
	"context"

	"github.com/docker-fetcher/docker-fetcher/fetcher/internal/registry"
)

// traced has the observer told of each request and decision, if it wants to be.
func (w *watch) traced(ctx context.Context, wanted bool) context.Context {
	if !wanted || w.observe == nil {
		return ctx
	}
	w.tracing = true
	return registry.WithTrace(ctx, func(e registry.Event) { w.send(public(e)) })
}

// public is an event of package registry as observers know it.
func public(e registry.Event) Event {
	switch e := e.(type) {
	case registry.Asked:
		return Asked(e)
	case registry.Decided:
		return Decided(e)
	case registry.Granted:
		return Granted(e)
	case registry.Refused:
		return Refused(e)
	case registry.Waiting:
		return Waiting(e)
	case registry.Skipped:
		return Skipped(e)
	}
	panic("an event of package registry that fetcher does not know")
}
