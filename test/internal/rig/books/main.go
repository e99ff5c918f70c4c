// Books is a ledger for the shop that keeps its entries in Redis, with the client and the
// instrumentation that services use.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"
	"time"

	"github.com/redis/go-redis/extra/redisotel/v9"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL("http://127.0.0.1:4317"))
	if err != nil {
		return err
	}
	res, err := resource.New(ctx, resource.WithFromEnv(), resource.WithHost(), resource.WithProcessPID())
	if err != nil {
		return err
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(200*time.Millisecond)))
	database := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	if err := redisotel.InstrumentTracing(database, redisotel.WithTracerProvider(tp), redisotel.WithDialFilter(true)); err != nil {
		return err
	}
	add := func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			ID     string      `json:"id"`
			Amount json.Number `json:"amount"`
		}
		err := json.NewDecoder(r.Body).Decode(&order)
		if err == nil {
			err = database.RPush(r.Context(), "entries", order.ID, order.Amount.String()).Err()
		}
		if err != nil {
			log.Print(err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}
	handler := otelhttp.NewHandler(http.HandlerFunc(add), "POST /entries", otelhttp.WithTracerProvider(tp), otelhttp.WithPropagators(propagation.TraceContext{}))
	server := http.Server{Addr: "127.0.0.1:8082", Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}
