// Tables that sort and are searched: DataTables does all of it.
for (const table of document.querySelectorAll("table.data")) {
  new DataTable(table, { order: [], pageLength: 25, paging: table.rows.length > 26, autoWidth: false });
}
