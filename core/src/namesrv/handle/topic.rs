//! 206, 224, 311–313 lists of topics; 216 DELETE, 217 REGISTER a topic.

use super::{Answer, done, refuse, with_body};
use crate::namesrv::NameServer;
use crate::wire::Command;
use crate::wire::body::{self, TopicRouteData};
use crate::wire::code::response_code;
use crate::wire::request::{DeleteTopicFromNamesrvRequest, GetTopicsByClusterRequest, RegisterTopicRequest};

impl NameServer {
    pub(super) fn get_all_topic_list(&self, request: &Command) -> Answer {
        if !self.config.enable_all_topic_list {
            return refuse(request, response_code::SYSTEM_ERROR, "disable");
        }
        with_body(request, &self.tables.topic_list())
    }

    pub(super) fn get_topics_by_cluster(&self, request: &Command) -> Answer {
        if !self.config.enable_topic_list {
            return refuse(request, response_code::SYSTEM_ERROR, "disable");
        }
        let GetTopicsByClusterRequest { cluster } = request.header()?;
        with_body(request, &self.tables.topics_of_cluster(&cluster))
    }

    pub(super) fn get_unit_topics(
        &self,
        request: &Command,
        unit: Option<bool>,
        unit_sub: Option<bool>,
    ) -> Answer {
        if !self.config.enable_topic_list {
            return refuse(request, response_code::SYSTEM_ERROR, "disable");
        }
        with_body(request, &self.tables.unit_topics(unit, unit_sub))
    }

    pub(super) fn delete_topic(&mut self, request: &Command) -> Answer {
        let DeleteTopicFromNamesrvRequest { topic, cluster_name } = request.header()?;
        tracing::info!(topic, cluster = cluster_name, "topic deleted");
        self.tables.delete_topic(&topic, cluster_name.as_deref().filter(|name| !name.is_empty()));
        done(request)
    }

    pub(super) fn register_topic(&mut self, request: &Command) -> Answer {
        let RegisterTopicRequest { topic } = request.header()?;
        match body::decode::<TopicRouteData>(&request.body) {
            Ok(route) => {
                self.tables.register_topic(&topic, route.queue_datas);
                done(request)
            }
            Err(error) => refuse(request, response_code::SYSTEM_ERROR, alloc::format!("{error}")),
        }
    }
}
