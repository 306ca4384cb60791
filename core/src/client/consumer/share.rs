//! Which queues this member of its group has: who else is there, how the queues are divided, and the locks of those that are
//! consumed in order.

use super::*;

impl Consumer {
    /// The members of the group have changed, or may have.
    pub(in super::super) fn rebalance_soon(&mut self, now: Instant) {
        self.rebalance_at = self.rebalance_at.min(now);
        if self.is_asking_members {
            Probe::ListStale.reached();
            self.is_list_stale = true;
        }
    }

    /// A broker knows this member now.
    pub(in super::super) fn on_heard(&mut self, now: Instant) {
        if self.lanes.is_empty() {
            self.rebalance_soon(now);
        }
    }

    pub(super) fn rebalance<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        if self.is_asking_members || self.rebalance_at > tools.now.mono {
            return;
        }
        if self.is_chosen() {
            return self.take_chosen(tools);
        }
        self.rebalance_at = tools.now.mono + REBALANCE_RETRY;
        if !self.is_clustering() {
            self.divide(None, tools);
            return;
        }
        let topics = self.topics();
        let routes = topics.iter().filter_map(|(topic, _)| tools.routes.existing(topic));
        let brokers: BTreeSet<String> = routes.flat_map(|route| route.brokers.keys().cloned()).collect();
        let Some(broker) = pick(&brokers, tools.env.rng.next_u64()) else { return };
        let Some(address) = tools.routes.address_to_read(broker, MASTER_ID).cloned() else { return };
        let header = GetConsumerListByGroupRequest { consumer_group: self.config.group.clone() };
        let command = Command::request(request_code::GET_CONSUMER_LIST_BY_GROUP, header.to_ext());
        self.is_asking_members = true;
        tools.call(&address, command, ANSWER, Errand::Members(address.clone()));
    }

    pub(super) fn on_members<D: Disk>(
        &mut self,
        broker: &Arc<str>,
        outcome: &Outcome,
        tools: &mut Tools<'_, '_, D>,
    ) {
        self.is_asking_members = false;
        let is_stale = core::mem::take(&mut self.is_list_stale);
        let Outcome::Reply(reply) = outcome else { return };
        if reply.code != response_code::SUCCESS {
            return;
        }
        let Ok(list) = body::decode::<GetConsumerListByGroupResponseBody>(&reply.body) else { return };
        let mut members = list.consumer_id_list;
        members.sort();
        members.dedup();
        // A broker that does not list this member has not heard its heartbeat yet: it keeps what it has.
        if members.contains(&self.client_id) {
            self.divide(Some(&members), tools);
            self.look_for_twins(broker, tools);
        }
        if is_stale {
            self.rebalance_soon(tools.now.mono);
        }
    }

    /// Takes this member's share of every topic.
    pub(super) fn divide<D: Disk>(&mut self, members: Option<&[String]>, tools: &mut Tools<'_, '_, D>) {
        let now = tools.now.mono;
        let mut all_known = true;
        for (topic, _) in self.topics() {
            let Some(route) = tools.routes.existing(&topic) else {
                all_known = false;
                continue;
            };
            let share = match members {
                None => Ok(route.readable.clone()),
                Some(members) => self.config.strategy.allocate(&self.client_id, &route.readable, members),
            };
            match share {
                Ok(mut share) => {
                    // Queues that are fixed in the configuration are those of all topics.
                    share.retain(|queue| queue.topic == topic);
                    self.assign(&topic, share, tools);
                }
                Err(error) => {
                    let what = format!("topic {topic} cannot be divided: {error}");
                    tools.env.out.push(Effect::Emit(ClientEvent::Problem(what)));
                }
            }
        }
        self.rebalance_at = now + if all_known { REBALANCE } else { REBALANCE_RETRY };
    }

    pub(super) fn assign<D: Disk>(
        &mut self,
        topic: &str,
        share: Vec<MessageQueue>,
        tools: &mut Tools<'_, '_, D>,
    ) {
        let share: BTreeSet<MessageQueue> = share.into_iter().collect();
        let gone: Vec<MessageQueue> = self
            .lanes
            .keys()
            .filter(|queue| queue.topic == topic && !share.contains(*queue))
            .cloned()
            .collect();
        let mut changed = !gone.is_empty();
        for queue in gone {
            self.give_back(&queue, tools);
        }
        for queue in &share {
            if !self.lanes.contains_key(queue) {
                changed = true;
                self.next_life += 1;
                self.lanes.insert(queue.clone(), Lane::new(self.next_life, tools.now.mono));
                self.lock_at = tools.now.mono;
            }
        }
        if changed {
            let queues = share.into_iter().collect();
            tools.env.out.push(Effect::Emit(ClientEvent::Assigned { topic: topic.to_string(), queues }));
        }
    }

    /// A queue goes to another member: it is told how far this one came.
    pub(super) fn give_back<D: Disk>(&mut self, queue: &MessageQueue, tools: &mut Tools<'_, '_, D>) {
        self.commit_by_itself(queue, tools);
        self.lanes.remove(queue);
        self.paused.remove(queue);
        self.forget_deliveries(queue);
        // The next owner must not begin while the application is at it.
        if self.needs_lock() && !self.is_held(queue) {
            self.unlock(queue, tools);
        }
    }

    /// Whether the application has a delivery of an ordered queue from before it was given back or begun anew.
    pub(super) fn is_held(&self, queue: &MessageQueue) -> bool {
        let is_held = self.leaving.values().any(|held| held == queue);
        if is_held {
            Probe::HeldWhenBack.reached();
        }
        is_held
    }

    /// What was handed out of a queue counts no more.
    pub(super) fn forget_deliveries(&mut self, queue: &MessageQueue) {
        let forgotten = self.out.extract_if(.., |_, out| out.queue == *queue).map(|(id, _)| id);
        let forgotten: Vec<DeliveryId> = forgotten.collect();
        if self.config.orderly && !self.is_stopped && !forgotten.is_empty() {
            Probe::HeldWhenLeaving.reached();
            self.leaving.extend(forgotten.into_iter().map(|id| (id, queue.clone())));
        }
    }

    pub(super) fn unlock<D: Disk>(&self, queue: &MessageQueue, tools: &mut Tools<'_, '_, D>) {
        let Some(address) = tools.routes.address(&queue.broker_name, MASTER_ID).cloned() else { return };
        let command = self.lock_command(request_code::UNLOCK_BATCH_MQ, BTreeSet::from([queue.clone()]));
        tools.calls.tell(tools.now, &address, command, tools.env);
    }

    pub(super) fn lock_command(&self, code: i32, mq_set: BTreeSet<MessageQueue>) -> Command {
        let body = LockBatchRequestBody {
            client_id: self.client_id.clone(),
            consumer_group: self.config.group.clone(),
            mq_set,
            only_this_broker: false,
        };
        Command::request(code, Ext::None).with_body(body::encode(&body))
    }

    /// Asks for the locks of all queues, broker by broker.
    pub(super) fn lock<D: Disk>(&mut self, tools: &mut Tools<'_, '_, D>) {
        if !self.needs_lock() || self.lock_at > tools.now.mono {
            return;
        }
        self.lock_at = tools.now.mono + LOCK;
        let mut by_broker: BTreeMap<&str, BTreeSet<MessageQueue>> = BTreeMap::new();
        for queue in self.lanes.keys() {
            by_broker.entry(&queue.broker_name).or_default().insert(queue.clone());
        }
        for (broker, queues) in by_broker {
            let Some(address) = tools.routes.address(broker, MASTER_ID).cloned() else { continue };
            let errand = Errand::Lock(queues.iter().cloned().collect());
            let command = self.lock_command(request_code::LOCK_BATCH_MQ, queues);
            tools.call(&address, command, ANSWER, errand);
        }
    }

    pub(super) fn on_locked(&mut self, now: Instant, asked: &[MessageQueue], outcome: &Outcome) {
        let granted = match outcome {
            Outcome::Reply(reply) if reply.code == response_code::SUCCESS => {
                body::decode::<LockBatchResponseBody>(&reply.body).ok()
            }
            Outcome::Reply(_) | Outcome::Lost | Outcome::NotSent => None,
        };
        let Some(granted) = granted else {
            self.lock_at = self.lock_at.min(now + REBALANCE_RETRY);
            return;
        };
        for queue in asked {
            let Some(lane) = self.lanes.get_mut(queue) else { continue };
            if granted.lock_ok_mq_set.contains(queue) {
                let is_anew = lane.locked_until.is_none_or(|until| until <= now);
                if is_anew {
                    if lane.next.is_some() {
                        Probe::LockedAnew.reached();
                    }
                    // Another member may have had it: what it committed counts, not what was known before.
                    self.next_life += 1;
                    *lane = Lane::new(self.next_life, now);
                }
                lane.locked_until = Some(now + LOCK_VALID);
                if is_anew {
                    self.forget_deliveries(queue);
                }
            } else {
                lane.locked_until = None;
                self.lock_at = self.lock_at.min(now + REBALANCE_RETRY);
            }
        }
    }
}
