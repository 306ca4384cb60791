//! What servers ask of a client.

use super::{Client, ClientEvent, consumer};
use crate::io::{ConnId, Disk, Env, Now};
use crate::wire::code::{request_code, response_code};
use crate::wire::{Command, Ext};

impl Client {
    /// A server asks something; what this client does not do it refuses, unless nobody wants to know.
    pub(super) fn on_asked<D: Disk>(
        &mut self,
        now: Now,
        conn: ConnId,
        command: &Command,
        env: &mut Env<'_, D, ClientEvent>,
    ) {
        match command.code {
            request_code::NOTIFY_CONSUMER_IDS_CHANGED => {
                if let Some(consumer) = &mut self.consumer {
                    consumer.expect_twins();
                    consumer.rebalance_soon(now.mono);
                }
            }
            request_code::CHECK_TRANSACTION_STATE => {
                if let (Some(producer), Some(asker)) = (&mut self.producer, self.calls.address(conn)) {
                    producer.on_check(asker, command, env);
                }
            }
            request_code::PUSH_REPLY_MESSAGE_TO_CLIENT => {
                if let Some(producer) = &mut self.producer {
                    producer.on_reply(command, env);
                }
                env.send(conn, Command::response(command, response_code::SUCCESS, Ext::None));
            }
            request_code::RESET_CONSUMER_CLIENT_OFFSET
            | request_code::GET_CONSUMER_STATUS_FROM_CLIENT
            | request_code::GET_CONSUMER_RUNNING_INFO
            | request_code::CONSUME_MESSAGE_DIRECTLY => {
                let mut tools =
                    consumer::Tools { now, routes: &mut self.routes, calls: &mut self.calls, env };
                let answer = match &mut self.consumer {
                    Some(consumer) => consumer.on_asked(conn, command, &mut tools),
                    None => {
                        let refusal = "this client consumes nothing";
                        Some(Command::error(command, response_code::SYSTEM_ERROR, refusal))
                    }
                };
                if let Some(answer) = answer.filter(|_| !command.is_oneway()) {
                    env.send(conn, answer);
                }
            }
            _ if command.is_oneway() => {}
            _ => {
                let refusal = "this client does not serve it";
                env.send(conn, Command::error(command, response_code::REQUEST_CODE_NOT_SUPPORTED, refusal));
            }
        }
    }
}
