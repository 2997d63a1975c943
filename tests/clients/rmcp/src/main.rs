//! Failing calls of a client on rmcp; its jobs come on standard input, as `python_common.serve` tells, and are reported as in
//! `faults_python_common.py`. Surprise: rmcp begins a session anew where a call was answered 404, and asks again.

use std::time::Duration;

use futures_util::future::join_all;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(job) = serde_json::from_str::<Value>(&line) else { return };
        tokio::spawn(
            async move { println!("{}", json!({ "job": job["id"], "report": suffer(&job).await })) },
        );
    }
}

async fn suffer(job: &Value) -> Map<String, Value> {
    let faults: Vec<&str> =
        job["faults"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let ends = join_all(faults.iter().map(|fault| both(job, fault))).await;
    faults.iter().map(|fault| (*fault).to_owned()).zip(ends.into_iter().map(|ends| json!(ends))).collect()
}

async fn both(job: &Value, fault: &str) -> [String; 2] {
    let patience = Duration::from_secs_f64(job["patience"].as_f64().unwrap_or(5.0));
    let transport = StreamableHttpClientTransport::from_uri(job["url"].as_str().unwrap_or_default());
    let client = match ().serve(transport).await {
        Ok(client) => client,
        Err(error) => return [format!("torn: {error}"), "torn".to_owned()],
    };
    let ends = [end(&client, fault, patience).await, end(&client, "ok", patience).await];
    // A server that is silent keeps its connection; nobody waits for it.
    let _ = timeout(patience, client.cancel()).await;
    ends
}

async fn end(client: &RunningService<RoleClient, ()>, tool: &str, patience: Duration) -> String {
    match timeout(patience, client.call_tool(CallToolRequestParams::new(tool.to_owned()))).await {
        Err(_) => "hang".to_owned(),
        Ok(Ok(_)) => "result".to_owned(),
        Ok(Err(ServiceError::McpError(error))) => format!("error {}", error.code.0),
        Ok(Err(ServiceError::TransportSend(_))) => "raised TransportSend".to_owned(),
        Ok(Err(ServiceError::TransportClosed)) => "torn: TransportClosed".to_owned(),
        Ok(Err(ServiceError::UnexpectedResponse)) => "raised UnexpectedResponse".to_owned(),
        Ok(Err(error)) => format!("raised {error}"),
    }
}
