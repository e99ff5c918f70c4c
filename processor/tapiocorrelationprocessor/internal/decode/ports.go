package decode

import "go.opentelemetry.io/collector/pdata/pcommon"

// databasePorts are the default ports of database systems, by db.system.name of the
// semantic conventions and, where it differs, db.system from before version 1.28. Of those
// systems that have several ports, none is here.
var databasePorts = map[string]int64{
	"postgresql": 5432, "cockroachdb": 26257,
	"mysql": 3306, "mariadb": 3306,
	"microsoft.sql_server": 1433, "mssql": 1433,
	"oracle.db": 1521, "oracle": 1521,
	"redis": 6379, "memcached": 11211,
	"mongodb": 27017, "cassandra": 9042, "couchdb": 5984,
	"elasticsearch": 9200, "opensearch": 9200,
	"influxdb": 8086, "neo4j": 7687,
}

// defaultPort is the port that a client span has called that names a server and no port, 0
// when it is not known. The semantic conventions let a database's span leave out server.port
// when it is the system's default, and no other's.
func defaultPort(attrs pcommon.Map) int64 {
	return databasePorts[first(attrs, "db.system.name", "db.system")]
}
