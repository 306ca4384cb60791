//! 100 PUT, 101 GET, 102 DELETE, 219 list: the key-value configuration.

use alloc::format;

use super::{Answer, refuse, with_body};
use crate::io::ConnId;
use crate::namesrv::NameServer;
use crate::namesrv::kv::KV_BYTES_MAX;
use crate::namesrv::save::File;
use crate::wire::Command;
use crate::wire::code::response_code;
use crate::wire::request::{
    DeleteKVConfigRequest, GetKVConfigRequest, GetKVConfigResponse, GetKVListByNamespaceRequest, Header,
    PutKVConfigRequest,
};

impl NameServer {
    pub(super) fn put_kv_config(&mut self, conn: ConnId, request: &Command) -> Answer {
        let PutKVConfigRequest { namespace, key, value } = request.header()?;
        tracing::info!(namespace, key, value, "key-value configuration set");
        if !self.kv.put(namespace, key, value) {
            let remark = format!("the key-value configuration may hold {KV_BYTES_MAX} bytes");
            return refuse(request, response_code::SYSTEM_ERROR, remark);
        }
        self.saves.change(File::Kv, conn, request);
        Ok(None)
    }

    pub(super) fn delete_kv_config(&mut self, conn: ConnId, request: &Command) -> Answer {
        let DeleteKVConfigRequest { namespace, key } = request.header()?;
        tracing::info!(namespace, key, "key-value configuration deleted");
        self.kv.delete(&namespace, &key);
        self.saves.change(File::Kv, conn, request);
        Ok(None)
    }

    pub(super) fn get_kv_config(&self, request: &Command) -> Answer {
        let GetKVConfigRequest { namespace, key } = request.header()?;
        match self.kv.get(&namespace, &key) {
            Some(value) => {
                let ext = GetKVConfigResponse { value: Some(value.into()) }.to_ext();
                Ok(Some(Command::response(request, response_code::SUCCESS, ext)))
            }
            None => {
                let remark = format!("No config item, Namespace: {namespace} Key: {key}");
                refuse(request, response_code::QUERY_NOT_FOUND, remark)
            }
        }
    }

    pub(super) fn get_kv_list(&self, request: &Command) -> Answer {
        let GetKVListByNamespaceRequest { namespace } = request.header()?;
        match self.kv.list(&namespace) {
            Some(table) => with_body(request, &table),
            None => refuse(
                request,
                response_code::QUERY_NOT_FOUND,
                format!("No config item, Namespace: {namespace}"),
            ),
        }
    }
}
