// Tables that sort and are searched: DataTables does all of it.
jQuery("table.data").each(function () {
  jQuery(this).DataTable({ order: [], pageLength: 25, paging: this.rows.length > 26, autoWidth: false });
});
