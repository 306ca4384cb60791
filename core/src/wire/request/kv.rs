//! The key-value configuration of a name server.

use alloc::string::String;

use super::header::headers;

headers! {
    /// PUT_KV_CONFIG (100).
    PutKVConfigRequest {
        namespace: String = "namespace",
        key: String = "key",
        value: String = "value",
    }
    /// GET_KV_CONFIG (101).
    GetKVConfigRequest {
        namespace: String = "namespace",
        key: String = "key",
    }
    /// Answer to GET_KV_CONFIG (101).
    GetKVConfigResponse {
        value: Option<String> = "value",
    }
    /// DELETE_KV_CONFIG (102).
    DeleteKVConfigRequest {
        namespace: String = "namespace",
        key: String = "key",
    }
    /// GET_KVLIST_BY_NAMESPACE (219).
    GetKVListByNamespaceRequest {
        namespace: String = "namespace",
    }
}
