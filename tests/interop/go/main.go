// The Go client of RocketMQ against one server: each way of sending, each way of consuming. `main NAMESRV`; the topics must exist
// or be created by the server. Prints one line a check; exit code 1 when one failed.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const limit = 60 * time.Second

var (
	failed  bool
	namesrv primitive.NamesrvAddr
)

func check(name string, body func() error) {
	start := time.Now()
	err := body()
	if err != nil {
		failed = true
		fmt.Printf("FAILED %s: %v\n", name, err)
		return
	}
	fmt.Printf("  %s in %d ms\n", name, time.Since(start).Milliseconds())
}

// Bodies that a consumer has seen, by queue, in order.
type seen struct {
	lock   sync.Mutex
	bodies map[string]int
	order  map[int][]string
	first  map[string]time.Time
}

func newSeen() *seen {
	return &seen{bodies: map[string]int{}, order: map[int][]string{}, first: map[string]time.Time{}}
}

func (s *seen) add(message *primitive.MessageExt) int {
	s.lock.Lock()
	defer s.lock.Unlock()
	body := string(message.Body)
	s.bodies[body]++
	if s.bodies[body] == 1 {
		s.first[body] = time.Now()
	}
	s.order[message.Queue.QueueId] = append(s.order[message.Queue.QueueId], body)
	return s.bodies[body]
}

func (s *seen) await(count int) error {
	end := time.Now().Add(limit)
	for {
		s.lock.Lock()
		got := len(s.bodies)
		s.lock.Unlock()
		if got >= count {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d messages seen", got, count)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *seen) exactlyOnce(count int) error {
	if err := s.await(count); err != nil {
		return err
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	for body, times := range s.bodies {
		if times != 1 {
			return fmt.Errorf("%q was seen %d times", body, times)
		}
	}
	if len(s.bodies) != count {
		return fmt.Errorf("%d messages seen, not %d", len(s.bodies), count)
	}
	return nil
}

func newProducer(group string, options ...producer.Option) (rocketmq.Producer, error) {
	options = append(options, producer.WithNameServer(namesrv), producer.WithGroupName(group), producer.WithRetry(5),
		producer.WithSendMsgTimeout(10*time.Second))
	p, err := rocketmq.NewProducer(options...)
	if err != nil {
		return nil, err
	}
	return p, p.Start()
}

func consume(group, topic string, selector consumer.MessageSelector,
	listen func(*primitive.MessageExt) consumer.ConsumeResult, options ...consumer.Option) (rocketmq.PushConsumer, error) {
	all := []consumer.Option{consumer.WithNameServer(namesrv), consumer.WithGroupName(group), consumer.WithInstance(group),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset), consumer.WithConsumeMessageBatchMaxSize(1)}
	c, err := rocketmq.NewPushConsumer(append(all, options...)...)
	if err != nil {
		return nil, err
	}
	err = c.Subscribe(topic, selector, func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		result := consumer.ConsumeSuccess
		for _, message := range messages {
			if one := listen(message); one != consumer.ConsumeSuccess {
				result = one
			}
		}
		return result, nil
	})
	if err != nil {
		return nil, err
	}
	return c, c.Start()
}

func message(topic, body string) *primitive.Message {
	return primitive.NewMessage(topic, []byte(body))
}

// Synchronously, asynchronously, without an answer and in batches; each message is seen once.
func ways() error {
	p, err := newProducer("go-ways")
	if err != nil {
		return err
	}
	defer p.Shutdown()
	background := context.Background()
	for n := 0; n < 50; n++ {
		if _, err := p.SendSync(background, message("GoWays", "sync-"+strconv.Itoa(n)).WithKeys([]string{"k"})); err != nil {
			return err
		}
	}
	results := make(chan error, 50)
	for n := 0; n < 50; n++ {
		err := p.SendAsync(background, func(_ context.Context, _ *primitive.SendResult, err error) { results <- err },
			message("GoWays", "async-"+strconv.Itoa(n)))
		if err != nil {
			return err
		}
	}
	for n := 0; n < 50; n++ {
		if err := <-results; err != nil {
			return err
		}
	}
	for n := 0; n < 20; n++ {
		if err := p.SendOneWay(background, message("GoWays", "oneway-"+strconv.Itoa(n))); err != nil {
			return err
		}
	}
	batch := []*primitive.Message{}
	for n := 0; n < 30; n++ {
		batch = append(batch, message("GoWays", "batch-"+strconv.Itoa(n)))
	}
	if _, err := p.SendSync(background, batch...); err != nil {
		return err
	}
	got := newSeen()
	c, err := consume("go-ways-group", "GoWays", consumer.MessageSelector{}, func(m *primitive.MessageExt) consumer.ConsumeResult {
		got.add(m)
		return consumer.ConsumeSuccess
	})
	if err != nil {
		return err
	}
	defer c.Shutdown()
	return got.exactlyOnce(150)
}

// Messages of one key go to one queue and are consumed in order.
func orderly() error {
	p, err := newProducer("go-order", producer.WithQueueSelector(producer.NewHashQueueSelector()))
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for n := 0; n < 60; n++ {
		m := message("GoOrder", fmt.Sprintf("%d-%03d", n%3, n)).WithShardingKey(strconv.Itoa(n % 3))
		if _, err := p.SendSync(context.Background(), m); err != nil {
			return err
		}
	}
	got := newSeen()
	c, err := consume("go-order-group", "GoOrder", consumer.MessageSelector{}, func(m *primitive.MessageExt) consumer.ConsumeResult {
		got.add(m)
		return consumer.ConsumeSuccess
	}, consumer.WithConsumerOrder(true))
	if err != nil {
		return err
	}
	defer c.Shutdown()
	if err := got.exactlyOnce(60); err != nil {
		return err
	}
	for queue, bodies := range got.order {
		last := map[byte]string{}
		for _, body := range bodies {
			if body <= last[body[0]] {
				return fmt.Errorf("queue %d: %q after %q", queue, body, last[body[0]])
			}
			last[body[0]] = body
		}
	}
	return nil
}

// Only messages with a wanted tag are seen.
func tags() error {
	p, err := newProducer("go-tags")
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for n := 0; n < 40; n++ {
		tag := "T" + strconv.Itoa(n%4)
		if _, err := p.SendSync(context.Background(), message("GoTags", tag+"-"+strconv.Itoa(n)).WithTag(tag)); err != nil {
			return err
		}
	}
	got := newSeen()
	selector := consumer.MessageSelector{Type: consumer.TAG, Expression: "T1||T3"}
	c, err := consume("go-tags-group", "GoTags", selector, func(m *primitive.MessageExt) consumer.ConsumeResult {
		got.add(m)
		return consumer.ConsumeSuccess
	})
	if err != nil {
		return err
	}
	defer c.Shutdown()
	return got.exactlyOnce(20)
}

// Both members of a broadcasting group see all.
func broadcasting() error {
	p, err := newProducer("go-broadcast")
	if err != nil {
		return err
	}
	defer p.Shutdown()
	members := []*seen{newSeen(), newSeen()}
	if _, err := p.SendSync(context.Background(), message("GoBroadcast", "0")); err != nil {
		return err
	}
	for n, member := range members {
		c, err := consume("go-broadcast-group", "GoBroadcast", consumer.MessageSelector{}, func(m *primitive.MessageExt) consumer.ConsumeResult {
			member.add(m)
			return consumer.ConsumeSuccess
		}, consumer.WithConsumerModel(consumer.BroadCasting), consumer.WithInstance("member-"+strconv.Itoa(n)))
		if err != nil {
			return err
		}
		defer c.Shutdown()
	}
	time.Sleep(2 * time.Second)
	for n := 1; n <= 20; n++ {
		if _, err := p.SendSync(context.Background(), message("GoBroadcast", strconv.Itoa(n))); err != nil {
			return err
		}
	}
	for _, member := range members {
		if err := member.await(20); err != nil {
			return err
		}
	}
	return nil
}

// A message of delay level 1 comes a second later; a refused one comes back.
func delayAndRetry() error {
	p, err := newProducer("go-retry")
	if err != nil {
		return err
	}
	defer p.Shutdown()
	// The client does not create the topic for a message while a consumer asks for it.
	if _, err := p.SendSync(context.Background(), message("GoRetry", "first")); err != nil {
		return err
	}
	got := newSeen()
	done := make(chan int32, 10)
	c, err := consume("go-retry-group", "GoRetry", consumer.MessageSelector{}, func(m *primitive.MessageExt) consumer.ConsumeResult {
		times := got.add(m)
		if string(m.Body) == "refused" {
			if times == 1 {
				return consumer.ConsumeRetryLater
			}
			done <- m.ReconsumeTimes
		}
		return consumer.ConsumeSuccess
	})
	if err != nil {
		return err
	}
	defer c.Shutdown()
	start := time.Now()
	if _, err := p.SendSync(context.Background(), message("GoRetry", "delayed").WithDelayTimeLevel(2)); err != nil {
		return err
	}
	if _, err := p.SendSync(context.Background(), message("GoRetry", "refused")); err != nil {
		return err
	}
	if err := got.await(3); err != nil {
		return err
	}
	if waited := got.first["delayed"].Sub(start); waited < 4500*time.Millisecond {
		return fmt.Errorf("a delay of 5 s took %v", waited)
	}
	select {
	case times := <-done:
		if times != 1 {
			return fmt.Errorf("reconsumed %d times, said its message", times)
		}
	case <-time.After(limit):
		return fmt.Errorf("a refused message did not come back")
	}
	return nil
}

// A pull consumer reads a topic from its beginning.
func pull() error {
	p, err := newProducer("go-pull")
	if err != nil {
		return err
	}
	defer p.Shutdown()
	for n := 0; n < 30; n++ {
		if _, err := p.SendSync(context.Background(), message("GoPull", strconv.Itoa(n))); err != nil {
			return err
		}
	}
	c, err := rocketmq.NewPullConsumer(consumer.WithNameServer(namesrv), consumer.WithGroupName("go-pull-group"))
	if err != nil {
		return err
	}
	if err := c.Subscribe("GoPull", consumer.MessageSelector{}); err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Shutdown()
	// This client may hand a message out again, so that only what is missing counts.
	got, end := newSeen(), time.Now().Add(limit)
	for len(got.bodies) < 30 {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		result, err := c.Pull(ctx, 8)
		cancel()
		if err == nil && result.Status == primitive.PullFound {
			for _, m := range result.GetMessageExts() {
				got.add(m)
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of 30 messages pulled (%v)", len(got.bodies), err)
		}
	}
	return nil
}

func main() {
	rlog.SetLogLevel("fatal")
	namesrv = primitive.NamesrvAddr{os.Args[1]}
	check("send in each way, consume each message once", ways)
	check("consume in order", orderly)
	check("filter by tags", tags)
	check("broadcast", broadcasting)
	check("delay level and retry", delayAndRetry)
	check("pull", pull)
	if failed {
		os.Exit(1)
	}
}
