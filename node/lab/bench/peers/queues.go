package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
)

// source is a queue from which workers take batches.
type source interface {
	queue
	// Take returns up to n messages, or none after some time without any. done acknowledges them after the commit.
	Take(ctx context.Context, n int) (messages [][]byte, done func(context.Context) error, err error)
	Close()
}

// serveQueue runs the handler and the workers in one process. Two processes would cost the queue more CPU.
func serveQueue(ctx context.Context, cfg *config, out io.Writer) error {
	pool, err := openPool(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	var s source
	if cfg.Design == "redis" {
		s, err = openRedis(ctx, cfg)
	} else {
		s, err = openNATS(ctx, cfg)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.Design, err)
	}
	defer s.Close()
	handler, err := newAPI(ctx, cfg, pool, s)
	if err != nil {
		return err
	}
	defer handler.tokens.Close()
	var workers sync.WaitGroup
	defer workers.Wait()
	for range cfg.Connections {
		workers.Go(func() { work(ctx, cfg, pool, s) })
	}
	return serve(ctx, out, handler)
}

// work takes batches and commits them until ctx ends. A worker takes everything that waits, up to a full batch, as a
// node's batcher does.
func work(ctx context.Context, cfg *config, pool *pgxpool.Pool, s source) {
	for ctx.Err() == nil {
		messages, done, err := s.Take(ctx, cfg.Batch)
		if err == nil && len(messages) > 0 {
			err = commit(ctx, pool, messages)
			if err == nil {
				err = done(ctx)
			}
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "worker:", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond): // an error that comes back at once would take the core
			}
		}
	}
}

// commit inserts a batch, again after an error: a worker that loses a batch would lose pay.
func commit(ctx context.Context, pool *pgxpool.Pool, messages [][]byte) error {
	events := make([]event, len(messages))
	for i, message := range messages {
		if err := json.Unmarshal(message, &events[i]); err != nil {
			return err
		}
	}
	for {
		err := insert(ctx, pool, events)
		if err == nil || ctx.Err() != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "worker:", err)
	}
}

const (
	queueName = "punches"
	// takeWait is how long an idle worker waits for a message. A shorter wait would cost CPU.
	takeWait = time.Second
)

// redisQueue is a list: the handler pushes, and a worker takes up to a full batch with one command. A worker that dies
// loses its batch. A second list for messages under way would prevent the loss and cost more.
type redisQueue struct{ client *redis.Client }

func openRedis(ctx context.Context, cfg *config) (*redisQueue, error) {
	// 10 connections for each core is the default of the library. All of them share one core here.
	client := redis.NewClient(&redis.Options{Addr: cfg.Redis, PoolSize: 32, ReadTimeout: 15 * time.Second})
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &redisQueue{client}, nil
}

func (q *redisQueue) Put(ctx context.Context, message []byte) error {
	return q.client.RPush(ctx, queueName, message).Err()
}

func (q *redisQueue) Take(ctx context.Context, n int) ([][]byte, func(context.Context) error, error) {
	none := func(context.Context) error { return nil }
	// BLMPOP waits on the server, and takes all that waits in one command.
	_, values, err := q.client.BLMPop(ctx, takeWait, "left", int64(n), queueName).Result()
	if errors.Is(err, redis.Nil) {
		return nil, none, nil
	}
	messages := make([][]byte, len(values))
	for i, v := range values {
		messages[i] = []byte(v)
	}
	return messages, none, err
}

func (q *redisQueue) Close() { _ = q.client.Close() } // the process ends

// natsQueue is a JetStream stream with a file store, in a server inside this process. Handler and workers reach it
// without a socket, which favours it.
type natsQueue struct {
	server   *server.Server
	conn     *nats.Conn
	stream   jetstream.JetStream
	consumer jetstream.Consumer
}

func openNATS(ctx context.Context, cfg *config) (_ *natsQueue, err error) {
	q := &natsQueue{}
	defer func() {
		if err != nil {
			q.Close()
		}
	}()
	q.server, err = server.NewServer(&server.Options{
		JetStream: true, StoreDir: cfg.Dir, SyncAlways: cfg.SyncAlways, DontListen: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, err
	}
	q.server.Start()
	if !q.server.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("the server does not answer")
	}
	if q.conn, err = nats.Connect("", nats.InProcessServer(q.server)); err != nil {
		return nil, err
	}
	// The limit of messages without an answer is far above the number of callers.
	if q.stream, err = jetstream.New(q.conn, jetstream.WithPublishAsyncMaxPending(1<<16)); err != nil {
		return nil, err
	}
	s, err := q.stream.CreateStream(ctx, jetstream.StreamConfig{
		Name: queueName, Subjects: []string{queueName}, Storage: jetstream.FileStorage, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		return nil, err
	}
	q.consumer, err = s.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 16 * cfg.Batch, AckWait: time.Minute,
	})
	return q, err
}

// Put waits for the acknowledgement of the stream. The callers' messages travel on one connection, without waiting for
// each other.
func (q *natsQueue) Put(ctx context.Context, message []byte) error {
	ack, err := q.stream.PublishAsync(queueName, message)
	if err != nil {
		return err
	}
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *natsQueue) Take(ctx context.Context, n int) ([][]byte, func(context.Context) error, error) {
	batch, err := q.waiting(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	messages := make([][]byte, len(batch))
	for i, m := range batch {
		messages[i] = m.Data()
	}
	// The acknowledgements need no answer. A lost one makes the stream deliver the message again, and the key of the row
	// then exists.
	return messages, func(context.Context) error {
		for _, m := range batch {
			if err := m.Ack(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// waiting returns the messages that wait. A fetch that waited for a full batch would delay the rows. A fetch that never
// waits would take the core, so an idle worker first waits for one message.
func (q *natsQueue) waiting(ctx context.Context, n int) ([]jetstream.Msg, error) {
	batch, err := q.consumer.FetchNoWait(n)
	if err != nil {
		return nil, err
	}
	list := collect(batch)
	if len(list) > 0 || ctx.Err() != nil {
		return list, batch.Error()
	}
	if batch, err = q.consumer.Fetch(1, jetstream.FetchMaxWait(takeWait)); err != nil {
		return nil, err
	}
	return collect(batch), batch.Error()
}

func collect(batch jetstream.MessageBatch) (list []jetstream.Msg) {
	for m := range batch.Messages() {
		list = append(list, m)
	}
	return list
}

func (q *natsQueue) Close() {
	if q.conn != nil {
		q.conn.Close()
	}
	if q.server != nil {
		q.server.Shutdown()
		q.server.WaitForShutdown()
	}
}
